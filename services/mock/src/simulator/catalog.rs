//! The facts of the world that the simulator flies in: airports, airlines, and the blocks of
//! 24-bit addresses that ICAO Annex 10 gives to states. They are CSV files in `data/`, compiled in.
//!
//! A simulator's name promises its events, so changing these files changes what a name means: the
//! golden test in [`super`] fails then.

use std::collections::HashMap;

const AIRPORTS: &str = include_str!("../../data/airports.csv");
const AIRLINES: &str = include_str!("../../data/airlines.csv");
const ADDRESS_BLOCKS: &str = include_str!("../../data/address-blocks.csv");

/// An airport: its reference point stands for its gates, and lies half way along its runway.
#[derive(Debug, Clone, PartialEq)]
pub struct Airport {
    /// ICAO location indicator, four letters.
    pub icao: &'static str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Above mean sea level, in feet.
    pub elevation_ft: i32,
    /// For people.
    pub name: &'static str,
}

impl Airport {
    /// (latitude, longitude) in degrees.
    pub fn point(&self) -> (f64, f64) {
        (self.latitude, self.longitude)
    }
}

/// An airline, and where its aircraft are at home.
#[derive(Debug, Clone, PartialEq)]
pub struct Airline {
    /// ICAO designator, three letters: what its callsigns begin with.
    pub icao: &'static str,
    /// For people.
    pub name: &'static str,
    /// State of registry, as in the address blocks.
    pub country: &'static str,
    /// Index of its home in [`Catalog::airports`].
    pub base: usize,
    /// The longest leg that it flies, in nautical miles.
    pub range_nm: f64,
    /// The state's 24-bit addresses, first and last.
    pub addresses: (u32, u32),
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Sorted by ICAO code.
    pub airports: Vec<Airport>,
    /// Sorted by ICAO designator.
    pub airlines: Vec<Airline>,
}

impl Catalog {
    /// Reads the compiled-in files.
    ///
    /// # Panics
    /// A row is malformed: the files are part of the program, and a test reads every row.
    pub fn load() -> Self {
        Self::parse().unwrap_or_else(|error| {
            panic!("the data compiled into flight-mock is malformed: {error}")
        })
    }

    fn parse() -> Result<Self, String> {
        let mut airports = Vec::new();
        for [icao, latitude, longitude, elevation_ft, name] in rows("data/airports.csv", AIRPORTS) {
            let number = |text: &str| {
                text.parse::<f64>()
                    .map_err(|e| format!("data/airports.csv, {icao}: {e}"))
            };
            airports.push(Airport {
                icao,
                latitude: number(latitude)?,
                longitude: number(longitude)?,
                elevation_ft: elevation_ft
                    .parse()
                    .map_err(|e| format!("data/airports.csv, {icao}: {e}"))?,
                name,
            });
        }
        let mut blocks = HashMap::new();
        for [country, first, last] in rows("data/address-blocks.csv", ADDRESS_BLOCKS) {
            let address = |text| {
                u32::from_str_radix(text, 16)
                    .map_err(|e| format!("data/address-blocks.csv, {country}: {e}"))
            };
            blocks.insert(country, (address(first)?, address(last)?));
        }
        let mut airlines = Vec::new();
        for [icao, name, country, base, range_nm] in rows("data/airlines.csv", AIRLINES) {
            let wrong = |what: &str| format!("data/airlines.csv, {icao}: {what}");
            airlines.push(Airline {
                icao,
                name,
                country,
                base: airports
                    .iter()
                    .position(|a| a.icao == base)
                    .ok_or_else(|| wrong("unknown base"))?,
                range_nm: range_nm
                    .parse()
                    .map_err(|_| wrong("range is not a number"))?,
                addresses: *blocks
                    .get(country)
                    .ok_or_else(|| wrong("country without addresses"))?,
            });
        }
        Ok(Self { airports, airlines })
    }

    /// Index of an airport.
    pub fn airport(&self, icao: &str) -> Option<usize> {
        self.airports
            .iter()
            .position(|airport| airport.icao == icao)
    }

    /// Index of an airline.
    pub fn airline(&self, icao: &str) -> Option<usize> {
        self.airlines
            .iter()
            .position(|airline| airline.icao == icao)
    }
}

/// The rows of a CSV file without quoting, after its header line.
fn rows<const N: usize>(
    file: &'static str,
    text: &'static str,
) -> impl Iterator<Item = [&'static str; N]> {
    text.lines().skip(1).map(move |line| {
        let fields: Vec<&str> = line.split(',').collect();
        fields
            .try_into()
            .unwrap_or_else(|_| panic!("{file}: `{line}` has not {N} fields"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_airport_is_on_the_globe_and_listed_once() {
        let catalog = Catalog::load();
        assert!(catalog.airports.len() >= 300, "{}", catalog.airports.len());
        let mut seen = HashSet::new();
        for airport in &catalog.airports {
            let Airport {
                icao,
                latitude,
                longitude,
                elevation_ft,
                name,
            } = airport;
            assert!(
                icao.len() == 4 && icao.bytes().all(|b| b.is_ascii_uppercase()),
                "{icao}"
            );
            assert!(seen.insert(*icao), "{icao} twice");
            assert!((-60.0..75.0).contains(latitude), "{icao} {latitude}");
            assert!((-180.0..180.0).contains(longitude), "{icao} {longitude}");
            assert!(
                latitude.abs() > 0.01 || longitude.abs() > 0.01,
                "{icao} at null island"
            );
            assert!(
                (-30..14_000).contains(elevation_ft),
                "{icao} {elevation_ft}"
            );
            assert!(!name.is_empty(), "{icao}");
        }
        assert!(
            catalog.airports.is_sorted_by_key(|a| a.icao),
            "sorted, so that changes are easy to read"
        );
    }

    #[test]
    fn no_two_airports_are_at_one_place() {
        let catalog = Catalog::load();
        for (i, a) in catalog.airports.iter().enumerate() {
            for b in &catalog.airports[..i] {
                let apart = super::super::geo::distance_nm(a.point(), b.point());
                assert!(apart > 2.0, "{} and {}: {apart} NM", a.icao, b.icao);
            }
        }
    }

    #[test]
    fn known_airports_are_where_they_are() {
        let catalog = Catalog::load();
        for (icao, latitude, longitude, elevation_ft) in [
            ("OMDB", 25.2528, 55.3644, 34),
            ("EGLL", 51.4706, -0.46194, 83),
            ("KJFK", 40.63993, -73.77869, 13),
            ("KSFO", 37.61881, -122.37542, 13),
            ("KOAK", 37.72126, -122.22115, 9),
            ("SLLP", -16.5133, -68.1923, 13_355),
            ("EHAM", 52.3086, 4.76389, -11),
            ("NZQN", -45.0211, 168.739, 1_171),
            ("RJTT", 35.5523, 139.78, 35),
        ] {
            let airport = &catalog.airports[catalog.airport(icao).expect(icao)];
            assert_eq!(
                (airport.latitude, airport.longitude),
                (latitude, longitude),
                "{icao}"
            );
            assert_eq!(airport.elevation_ft, elevation_ft, "{icao}");
        }
    }

    /// The first letter of an ICAO code is a region: a row whose coordinates lost their sign shows.
    #[test]
    fn airports_lie_in_the_region_of_their_code() {
        for a in Catalog::load().airports {
            let (lat, lon) = a.point();
            let plausible = match a.icao.as_bytes()[0] {
                b'C' | b'K' => lon < -50.0 && lat > 24.0,
                b'S' => lat < 14.0 && (-93.0..-30.0).contains(&lon),
                b'E' | b'B' => lat > 45.0 && (-70.0..40.0).contains(&lon),
                b'L' => (25.0..60.0).contains(&lat) && (-32.0..40.0).contains(&lon),
                b'O' => (10.0..40.0).contains(&lat) && (30.0..80.0).contains(&lon),
                b'V' => (-8.0..36.0).contains(&lat) && (65.0..115.0).contains(&lon),
                b'Z' => lat > 15.0 && lon > 70.0,
                b'R' => lat > 3.0 && lon > 115.0,
                b'Y' => lat < -9.0 && lon > 110.0,
                b'F' => lat < 15.0 && (-20.0..75.0).contains(&lon),
                b'M' => (5.0..33.0).contains(&lat) && (-120.0..-65.0).contains(&lon),
                _ => true,
            };
            assert!(plausible, "{} at {lat}, {lon}", a.icao);
        }
    }

    #[test]
    fn every_airline_can_register_and_fly() {
        let catalog = Catalog::load();
        assert!(catalog.airlines.len() >= 60, "{}", catalog.airlines.len());
        let mut seen = HashSet::new();
        for airline in &catalog.airlines {
            let icao = airline.icao;
            assert!(
                icao.len() == 3 && icao.bytes().all(|b| b.is_ascii_uppercase()),
                "{icao}"
            );
            assert!(seen.insert(icao), "{icao} twice");
            assert!(!airline.name.is_empty(), "{icao}");
            assert!((1_000.0..9_000.0).contains(&airline.range_nm), "{icao}");
            let (first, last) = airline.addresses;
            assert!(first < last && last < 1 << 24, "{icao}");
        }
        for (icao, name, base) in [
            ("FDB", "flydubai", "OMDB"),
            ("BAW", "British Airways", "EGLL"),
            ("UAL", "United Airlines", "KSFO"),
        ] {
            let airline = &catalog.airlines[catalog.airline(icao).expect(icao)];
            assert_eq!(
                (airline.name, catalog.airports[airline.base].icao),
                (name, base)
            );
        }
    }

    #[test]
    fn states_share_no_address() {
        let mut blocks: Vec<(u32, u32)> = Catalog::load()
            .airlines
            .iter()
            .map(|a| a.addresses)
            .collect();
        blocks.sort_unstable();
        blocks.dedup();
        for pair in blocks.windows(2) {
            assert!(pair[0].1 < pair[1].0, "{pair:x?}");
        }
    }
}

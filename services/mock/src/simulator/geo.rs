//! Great circles on a sphere of the Earth's mean radius.
//!
//! A point is a unit vector; a great circle is its departure point `a` and the unit vector `b` a
//! quarter turn ahead, so that the point at angle θ is `a·cos θ + b·sin θ` and the direction of
//! travel there is `b·cos θ − a·sin θ`. All functions are those of the `libm` crate, not of the
//! machine's C library: two machines must compute the same bytes.

/// Mean radius of the Earth (IUGG R1, 6,371.0088 km) in nautical miles of 1,852 m.
pub const EARTH_RADIUS_NM: f64 = 6_371.008_8 / 1.852;

type Vector = [f64; 3];

fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn unit_vector(latitude: f64, longitude: f64) -> Vector {
    let (sin_lat, cos_lat) = libm::sincos(latitude.to_radians());
    let (sin_lon, cos_lon) = libm::sincos(longitude.to_radians());
    [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat]
}

/// A point on a route, in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fix {
    /// Degrees east, -180 to 180.
    pub longitude: f64,
    /// Degrees north.
    pub latitude: f64,
    /// Direction of travel in degrees clockwise from north, 0 to 360.
    pub track: f64,
}

/// The shortest way between two points, and its continuation beyond both.
#[derive(Debug, Clone)]
pub struct GreatCircle {
    a: Vector,
    b: Vector,
    /// Length in nautical miles.
    pub length_nm: f64,
}

impl GreatCircle {
    /// From one (latitude, longitude) in degrees to another. The points must neither coincide nor
    /// be antipodes: routes between them are refused before this is called.
    pub fn between(from: (f64, f64), to: (f64, f64)) -> Self {
        let a = unit_vector(from.0, from.1);
        let c = unit_vector(to.0, to.1);
        let along = dot(a, c);
        let across: Vector = std::array::from_fn(|i| c[i] - a[i] * along);
        let norm = dot(across, across).sqrt();
        Self {
            a,
            b: across.map(|x| x / norm),
            length_nm: libm::atan2(norm, along) * EARTH_RADIUS_NM,
        }
    }

    /// The point at a distance along the circle, in nautical miles from the departure; negative is
    /// before it.
    pub fn at(&self, along_nm: f64) -> Fix {
        let (sin, cos) = libm::sincos(along_nm / EARTH_RADIUS_NM);
        let [x, y, z]: Vector = std::array::from_fn(|i| self.a[i] * cos + self.b[i] * sin);
        let [dx, dy, dz]: Vector = std::array::from_fn(|i| self.b[i] * cos - self.a[i] * sin);
        let from_axis = (x * x + y * y).sqrt();
        // The direction's share towards east is (x·dy − y·dx) / from_axis, towards north dz / from_axis.
        let track = libm::atan2(x * dy - y * dx, dz).to_degrees();
        Fix {
            longitude: libm::atan2(y, x).to_degrees(),
            latitude: libm::atan2(z, from_axis).to_degrees(),
            track: if track < 0.0 { track + 360.0 } else { track },
        }
    }
}

/// Distance in nautical miles between two (latitude, longitude) in degrees.
pub fn distance_nm(from: (f64, f64), to: (f64, f64)) -> f64 {
    let (a, c) = (unit_vector(from.0, from.1), unit_vector(to.0, to.1));
    let along = dot(a, c);
    let across: Vector = std::array::from_fn(|i| c[i] - a[i] * along);
    libm::atan2(dot(across, across).sqrt(), along) * EARTH_RADIUS_NM
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_routes() {
        // Published great-circle distances, within what the sphere differs from the ellipsoid.
        let (heathrow, kennedy) = ((51.4706, -0.46194), (40.63993, -73.77869));
        let route = GreatCircle::between(heathrow, kennedy);
        assert!(
            (route.length_nm - 2_991.0).abs() < 12.0,
            "{}",
            route.length_nm
        );
        assert!(
            (route.at(0.0).track - 288.0).abs() < 1.0,
            "{:?}",
            route.at(0.0)
        );
        // A quarter of the equator is 5,404 NM on this sphere; it heads east.
        let equator = GreatCircle::between((0.0, 0.0), (0.0, 90.0));
        assert!((equator.length_nm - std::f64::consts::FRAC_PI_2 * EARTH_RADIUS_NM).abs() < 1e-6);
        assert!((equator.at(100.0).track - 90.0).abs() < 1e-9);
    }

    #[test]
    fn the_date_line_is_crossed_without_leaving_the_globe() {
        let route = GreatCircle::between((35.55, 139.78), (37.62, -122.38));
        let longitudes: Vec<f64> = (0..400)
            .map(|i| route.at(route.length_nm * f64::from(i) / 400.0).longitude)
            .collect();
        assert!(longitudes.iter().all(|l| (-180.0..=180.0).contains(l)));
        assert!(longitudes.windows(2).any(|w| w[0] > 179.0 && w[1] < -179.0));
    }

    proptest! {
        #[test]
        fn a_route_ends_where_it_should(
            from in (-85.0f64..85.0, -180.0f64..180.0), to in (-85.0f64..85.0, -180.0f64..180.0),
        ) {
            let length = distance_nm(from, to);
            prop_assume!((50.0..10_000.0).contains(&length));
            let route = GreatCircle::between(from, to);
            let (start, end) = (route.at(0.0), route.at(route.length_nm));
            prop_assert!(distance_nm((start.latitude, start.longitude), from) < 1e-4);
            prop_assert!(distance_nm((end.latitude, end.longitude), to) < 1e-4);
            // Half way, as far from both.
            let half = route.at(length / 2.0);
            let there = distance_nm((half.latitude, half.longitude), to);
            prop_assert!((there - length / 2.0).abs() < 1e-4);
        }
    }
}

//! The whole stack with a proxy on each way between its programs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use contrail::component::Component::{self, Clickhouse, Ingester, Kafka, Mock, Producer, Registry};
use contrail::components::REGISTRY_BASE_PATH;
use contrail::http::Request;
use contrail::ports::{self, FreeOffset};
use contrail::proxy::{Manner, Proxy};
use contrail::{Stack, State, Verb};

use crate::plan::{Fault, Link};
use crate::whole::{TABLE, World, eventually, now_ms, sql, try_sql};

/// Longest wait for a program to be back after what was done to it, on a machine that is busy.
const BACK: Duration = Duration::from_secs(120);

/// Longest wait until a backlog is caught up: between two slices of a soak it grows.
const CAUGHT_UP: Duration = Duration::from_secs(900);

pub struct Rig {
    pub stack: Stack,
    proxies: BTreeMap<Link, Proxy>,
    _offset: FreeOffset,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl Rig {
    /// Starts the stack on a state, or on one that goes with it.
    pub fn start(world: World, state: Option<&Path>) -> Self {
        let offset = FreeOffset::pick().unwrap();
        let port = |component| ports::port(component, offset.get());
        // A broker tells its clients where it is: each client has a listener whose address is its proxy's.
        let (producers, ingesters) = (free_port(), free_port());
        let proxies: BTreeMap<Link, Proxy> = Link::ALL
            .into_iter()
            .map(|link| {
                let target = match link {
                    Link::ProducerToMock => port(Mock),
                    Link::ProducerToKafka => producers,
                    Link::IngesterToKafka => ingesters,
                    Link::ProducerToRegistry | Link::IngesterToRegistry => port(Registry),
                    Link::IngesterToClickhouse => port(Clickhouse),
                };
                (link, Proxy::start(target).unwrap())
            })
            .collect();
        let by_way_of = |link: Link| format!("127.0.0.1:{}", proxies[&link].port());
        let url = |link: Link| format!("http://{}", by_way_of(link));
        let registry = |link: Link| format!("{}{REGISTRY_BASE_PATH}", url(link));
        let controller = contrail::component::KAFKA_CONTROLLER_PORT + offset.get();
        let properties = [
            (
                "listeners",
                format!(
                    "PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{controller},\
                     PRODUCERS://127.0.0.1:{producers},INGESTERS://127.0.0.1:{ingesters}",
                    port(Kafka)
                ),
            ),
            (
                "advertised.listeners",
                format!(
                    "PLAINTEXT://127.0.0.1:{},PRODUCERS://{},INGESTERS://{}",
                    port(Kafka),
                    by_way_of(Link::ProducerToKafka),
                    by_way_of(Link::IngesterToKafka)
                ),
            ),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PRODUCERS:PLAINTEXT,INGESTERS:PLAINTEXT"
                    .to_owned(),
            ),
        ];
        let builder = world.settle(Stack::builder().port_offset(offset.get()));
        let builder = match state {
            Some(state) => builder.state(state),
            None => builder.temporary_state(),
        };
        let stack = builder
            .configure(|settings| {
                for (name, value) in properties {
                    settings.kafka.properties.insert(name.to_owned(), value);
                }
            })
            .env(
                Producer,
                "FLIGHT_PRODUCER_SOURCE__URL",
                url(Link::ProducerToMock),
            )
            .env(
                Producer,
                "FLIGHT_PRODUCER_KAFKA__BROKERS",
                by_way_of(Link::ProducerToKafka),
            )
            .env(
                Producer,
                "FLIGHT_PRODUCER_REGISTRY__URL",
                registry(Link::ProducerToRegistry),
            )
            .env(
                Ingester,
                "FLIGHT_INGESTER_KAFKA__BROKERS",
                by_way_of(Link::IngesterToKafka),
            )
            .env(
                Ingester,
                "FLIGHT_INGESTER_REGISTRY__URL",
                registry(Link::IngesterToRegistry),
            )
            .env(
                Ingester,
                "FLIGHT_INGESTER_CLICKHOUSE__URL",
                url(Link::IngesterToClickhouse),
            )
            // Some seconds of trouble are a long outage.
            .env(Producer, "FLIGHT_PRODUCER_CATCH_UP__AFTER_EVENTS", "20000")
            // Shorter than what is done to it: it gives up, and the insert is done all the same.
            .env(
                Ingester,
                "FLIGHT_INGESTER_CLICKHOUSE__INSERT_TIMEOUT_MS",
                "3000",
            )
            .start()
            .unwrap();
        Self {
            stack,
            proxies,
            _offset: offset,
        }
    }

    /// Does it, and mends it where it does not mend itself.
    pub fn inflict(&self, fault: Fault) {
        match fault {
            Fault::Kill(component) => {
                self.back(component);
                self.stack.kill(component).unwrap();
            }
            Fault::Freeze(component, time) => {
                self.back(component);
                self.stack.pause(component).unwrap();
                std::thread::sleep(time);
                self.stack.resume(component).unwrap();
            }
            Fault::Restart(component) => {
                self.back(component);
                self.stack.restart(component).unwrap();
            }
            Fault::Cut(link) => self.proxies[&link].cut(),
            Fault::Silence(link, time) => self.set_for(link, Manner::Hold, time),
            Fault::LoseAnswers(link, time) => {
                let proxy = &self.proxies[&link];
                proxy.set(Manner::HoldAnswers);
                std::thread::sleep(time);
                proxy.cut();
                proxy.set(Manner::Pass);
            }
            Fault::Slow(link, each, time) => self.set_for(link, Manner::Delay(each), time),
            Fault::Refuse(link, time) => {
                let proxy = &self.proxies[&link];
                proxy.set(Manner::Refuse);
                proxy.cut();
                std::thread::sleep(time);
                proxy.set(Manner::Pass);
            }
        }
    }

    fn set_for(&self, link: Link, manner: Manner, time: Duration) {
        let proxy = &self.proxies[&link];
        proxy.set(manner);
        std::thread::sleep(time);
        proxy.set(Manner::Pass);
    }

    /// Waits until a program runs: one that does not cannot be hurt. What has died is started without the
    /// pause that the supervisor would make.
    fn back(&self, component: Component) {
        eventually(BACK, "the program runs", || {
            let status = self.stack.status(component).unwrap();
            if status.state == State::Restarting {
                self.stack.ask(component, Verb::Start).unwrap();
            }
            status.pid.is_some() && status.state != State::Restarting
        });
    }

    /// Waits until all programs are ready and events are as young as they are without faults; how long
    /// that took.
    pub fn recover(&self) -> Duration {
        let began = Instant::now();
        for component in Component::ALL {
            self.back(component);
            self.stack.wait_ready(component, BACK).unwrap();
        }
        eventually(CAUGHT_UP, "events are live again", || {
            self.age().is_some_and(|age| age < Duration::from_secs(3))
        });
        began.elapsed()
    }

    /// How old the newest event is in the partition of Kafka that is farthest behind; each has hundreds of
    /// aircraft. `None` while ClickHouse does not say.
    pub fn age(&self) -> Option<Duration> {
        // The last minutes only, because this is asked often; a partition that has nothing of them is as if
        // its newest were of 1970.
        let newest = format!(
            "SELECT if(count() = 6, toUnixTimestamp64Milli(min(newest)), 0) FROM (SELECT max(timestamp) AS newest FROM {TABLE} \
             WHERE timestamp > now() - INTERVAL 10 MINUTE \
             GROUP BY bitAnd(kafkaMurmurHash(toString(flight_id)), 2147483647) % 6)"
        );
        let newest: i64 = try_sql(&self.stack, &newest).ok()?.parse().ok()?;
        Some(Duration::from_millis(
            (now_ms() - newest).max(0).unsigned_abs(),
        ))
    }

    /// Whether every program is ready.
    pub fn is_ready(&self) -> bool {
        let statuses = self.stack.statuses();
        statuses.iter().all(|status| status.state == State::Ready)
    }

    /// Waits until the producer has sent what it passed over to be live again; how long that took.
    pub fn catch_up(&self) -> Duration {
        let began = Instant::now();
        eventually(CAUGHT_UP, "what was passed over is sent", || {
            self.pending() == Some(0)
        });
        began.elapsed()
    }

    /// Events that the producer has passed over; `None` if it does not say.
    fn pending(&self) -> Option<u64> {
        let metrics = Request {
            method: "GET",
            port: self.stack.port(Producer),
            path: "/metrics",
            headers: &[],
            body: "",
            timeout: Duration::from_secs(5),
        };
        let text = metrics.send().ok()?.body;
        let pending = "flight_producer_catch_up_pending_events ";
        text.lines()
            .find_map(|line| line.strip_prefix(pending))?
            .parse()
            .ok()
    }

    /// What is kept beside the rows says what they say.
    pub fn assert_aggregates(&self) {
        let stack = &self.stack;
        let both = |question: &str| {
            let with = "optimize_use_projections = 1, force_optimize_projection = 1";
            let without = "optimize_use_projections = 0";
            [with, without].map(|how| sql(stack, &format!("{question} SETTINGS {how}")))
        };
        for question in [
            format!(
                "SELECT date, hour, source, count(), max(source_offset) FROM {TABLE} \
                 GROUP BY date, hour, source ORDER BY ALL"
            ),
            format!(
                "SELECT date, toStartOfMinute(timestamp) AS minute, lon_grid_materialized, \
                 lat_grid_materialized, count() FROM {TABLE} GROUP BY ALL ORDER BY ALL"
            ),
        ] {
            let [kept, counted] = both(&question);
            assert!(!counted.is_empty());
            assert_eq!(kept, counted, "{question}");
        }
        for view in ["h3_cells_counting", "popular_cells"] {
            sql(stack, &format!("SYSTEM REFRESH VIEW flight_data.{view}"));
            sql(stack, &format!("SYSTEM WAIT VIEW flight_data.{view}"));
        }
        let kept = sql(
            stack,
            "SELECT date, hour, h3_cell, frequency FROM flight_data.h3_cells_by_hour FINAL ORDER BY ALL",
        );
        let counted = sql(
            stack,
            &format!(
                "SELECT date, hour, geoToH3(longitude, latitude, 7) AS h3_cell, count() FROM {TABLE} \
                 GROUP BY date, hour, h3_cell ORDER BY ALL SETTINGS geotoh3_argument_order = 'lon_lat'"
            ),
        );
        assert!(kept == counted, "the cells are not counted as they are");
    }
}

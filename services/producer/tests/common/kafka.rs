//! One broker of Apache Kafka on free ports, which dies with the test process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{eventually, free_port};

/// Starts Java, and kills it when its own standard input ends: with the test process, however that
/// ends. Prints Java's process id.
const KEEPER: &str = r#"
java -Xmx400m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.configurationFile="$DIR/log4j2.properties" \
    -cp "$JARS/*" kafka.Kafka "$DIR/server.properties" >> "$DIR/log" 2>&1 < /dev/null &
pid=$!
echo $pid
cat > /dev/null
kill -CONT $pid 2> /dev/null
kill -KILL $pid 2> /dev/null
wait $pid
[ -n "$KEEP_KAFKA" ] || rm -rf "$DIR"
exit 0
"#;

const LOG4J: &str = "status=error\nappender.c.type=Console\nappender.c.name=C\n\
    appender.c.layout.type=PatternLayout\nappender.c.layout.pattern=%d{ISO8601} %p %c{1} %m%n\n\
    rootLogger.level=warn\nrootLogger.appenderRef.c.ref=C\n";

pub struct Kafka {
    directory: PathBuf,
    jars: PathBuf,
    port: u16,
    keeper: Child,
    pid: Pid,
}

impl Kafka {
    /// Formats a data directory and starts a broker.
    pub fn start() -> Self {
        let jars = jars();
        let directory = tempfile::tempdir().unwrap().keep();
        let (port, controller) = (free_port(), free_port());
        let properties = [
            "process.roles=broker,controller".to_owned(),
            "node.id=1".into(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}"),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".into(),
            "controller.listener.names=CONTROLLER".into(),
            "inter.broker.listener.name=PLAINTEXT".into(),
            format!("log.dirs={}/data", directory.display()),
            "offsets.topic.replication.factor=1".into(),
            "offsets.topic.num.partitions=4".into(),
            "transaction.state.log.replication.factor=1".into(),
            "transaction.state.log.min.isr=1".into(),
            "transaction.state.log.num.partitions=4".into(),
            // So that a test need not wait for the broker's next look.
            "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000".into(),
            "auto.create.topics.enable=false".into(),
        ];
        std::fs::write(directory.join("server.properties"), properties.join("\n")).unwrap();
        std::fs::write(directory.join("log4j2.properties"), LOG4J).unwrap();
        let format = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
            .arg(format!("{}/*", jars.display()))
            .args([
                "kafka.tools.StorageTool",
                "format",
                "-t",
                "AAAAAAAAAAAAAAAAAAAAAA",
                "-c",
            ])
            .arg(directory.join("server.properties"))
            .output()
            .expect("Java is needed: install a JRE 17 or newer");
        assert!(
            format.status.success(),
            "Kafka's directory cannot be formatted: {}",
            String::from_utf8_lossy(&format.stderr)
        );
        let (keeper, pid) = keep(&directory, &jars);
        let kafka = Self {
            directory,
            jars,
            port,
            keeper,
            pid,
        };
        kafka.wait_until_it_answers();
        kafka
    }

    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Freezes the broker: connections stay, nothing answers.
    pub fn freeze(&self) {
        kill(self.pid, Signal::SIGSTOP).unwrap();
    }

    pub fn thaw(&self) {
        kill(self.pid, Signal::SIGCONT).unwrap();
    }

    /// Kills the broker as a power switch would, waits, and starts it again on its data.
    pub fn crash_and_restart(&mut self, pause: Duration) {
        kill(self.pid, Signal::SIGKILL).unwrap();
        std::thread::sleep(pause);
        let (keeper, pid) = keep(&self.directory, &self.jars);
        let mut old = std::mem::replace(&mut self.keeper, keeper);
        self.pid = pid;
        // It must not take the directory with it.
        old.kill().unwrap();
        old.wait().unwrap();
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .set("log_level", "0")
            .create()
            .unwrap();
        eventually("Kafka answers", Duration::from_secs(60), || {
            consumer
                .fetch_metadata(None, Duration::from_secs(1))
                .is_ok_and(|metadata| !metadata.brokers().is_empty())
        });
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn keep(directory: &Path, jars: &Path) -> (Child, Pid) {
    let mut keeper = Command::new("sh")
        .args(["-c", KEEPER])
        .env("DIR", directory)
        .env("JARS", jars)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It would tell of the processes that it kills.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(keeper.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let pid = Pid::from_raw(line.trim().parse().unwrap());
    (keeper, pid)
}

/// Where the stack keeps Kafka, or where `CONTRAIL_PARTS` says that it does.
fn jars() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let parts = std::env::var_os("CONTRAIL_PARTS")
        .filter(|path| !path.is_empty())
        .map_or_else(|| root.join("var/parts"), |path| root.join(path));
    let directories = [parts.join("kafka"), parts.join("kafka/libs")];
    let holds_kafka = |directory: &PathBuf| {
        std::fs::read_dir(directory).is_ok_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("kafka_2"))
            })
        })
    };
    directories
        .into_iter()
        .find(holds_kafka)
        .unwrap_or_else(|| panic!("Kafka is not in {}: run `make parts`", parts.display()))
}

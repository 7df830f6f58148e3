//! A server of its own for a test: the real binary over the real engine, on a free port and a
//! folder that goes away.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub struct Server {
    child: Option<Child>,
    port: u16,
    settings: Vec<(String, String)>,
    config: String,
    /// What the binary is started by, such as `unshare …`.
    wrapper: Vec<String>,
    folder: TempDir,
}

/// A status and a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    /// The ClickHouse code in an error's text.
    pub fn code(&self) -> u32 {
        self.text
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(code, _)| code.parse().ok())
            .unwrap_or_else(|| panic!("not an error: {self:?}"))
    }
}

pub fn library() -> PathBuf {
    let library = std::env::var_os("CLICKHOUSE_EMBEDDED_LIBRARY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../var/parts/engine/libchdb.so"),
        PathBuf::from,
    );
    assert!(
        library.is_file(),
        "libchdb.so is not at {}: run `make parts`, or set CLICKHOUSE_EMBEDDED_LIBRARY",
        library.display()
    );
    library
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Settings by their environment names without the prefix.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut server = Self::new();
        server.settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        server.spawn().await;
        server
    }

    /// Settings as a configuration file has them.
    pub async fn start_with_config(toml: &str) -> Self {
        let mut server = Self::new();
        toml.clone_into(&mut server.config);
        server.spawn().await;
        server
    }

    /// A server whose program is run by another one. `DATA` there is the data path.
    pub async fn start_within(wrapper: &[&str]) -> Self {
        let mut server = Self::new();
        let data = server.data_path();
        std::fs::create_dir_all(&data).unwrap();
        server.wrapper = wrapper
            .iter()
            .map(|word| word.replace("DATA", data.to_str().unwrap()))
            .collect();
        server.spawn().await;
        server
    }

    fn new() -> Self {
        Self {
            child: None,
            port: free_port(),
            settings: Vec::new(),
            config: String::new(),
            wrapper: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_clickhouse-embedded");
        let mut command = match self.wrapper.split_first() {
            None => Command::new(program),
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(program);
                command
            }
        };
        if !self.config.is_empty() {
            let file = self.folder.path().join("settings.toml");
            std::fs::write(&file, &self.config).unwrap();
            command.arg("--config").arg(file);
        }
        command
            .arg("run")
            .env("CLICKHOUSE_EMBEDDED_LIBRARY", library())
            .env(
                "CLICKHOUSE_EMBEDDED_LISTEN",
                format!("127.0.0.1:{}", self.port),
            )
            .env("CLICKHOUSE_EMBEDDED_DATA_PATH", self.data_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for (name, value) in &self.settings {
            command.env(format!("CLICKHOUSE_EMBEDDED_{name}"), value);
        }
        command
    }

    pub fn data_path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub async fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.child = Some(self.command().spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let ready = reqwest::get(format!("http://127.0.0.1:{}/readyz", self.port)).await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            let child = self.child.as_mut().unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended: {status}");
            }
            assert!(
                Instant::now() < deadline,
                "the server is not ready after 30 s"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether the process that was started still runs.
    pub fn runs(&mut self) -> bool {
        let child = self.child.as_mut().unwrap();
        child.try_wait().unwrap().is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGKILL, as the failpoints of the issue ask.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends SIGTERM; see [`ended`](Self::ended).
    pub fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
    }

    /// Waits for the end.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < deadline, "still there after {limit:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// A client of the clickhouse crate as the seed's user.
    pub fn client(&self) -> clickhouse::Client {
        clickhouse::Client::default()
            .with_url(self.url())
            .with_user("default")
            .with_password("admin")
    }

    pub fn post(&self, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        self.post_as("default", "admin", query)
    }

    pub fn post_as(
        &self,
        user: &str,
        password: &str,
        query: &[(&str, &str)],
    ) -> reqwest::RequestBuilder {
        let mut url = self.url();
        for (at, (name, value)) in query.iter().enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(&percent(value));
        }
        reqwest::Client::new()
            .post(url)
            .header("X-ClickHouse-User", user)
            .header("X-ClickHouse-Key", password)
    }

    /// Sends a statement as the body.
    pub async fn ask(&self, sql: &str) -> Answer {
        answer(self.post(&[]).body(sql.to_owned())).await
    }

    /// Sends a statement as the body, as the read-only user.
    pub async fn ask_as_reader(&self, sql: &str) -> Answer {
        answer(self.post_as("reader", "reader", &[]).body(sql.to_owned())).await
    }

    /// A statement that must succeed; its result without the last line end.
    pub async fn value(&self, sql: &str) -> String {
        let answer = self.ask(sql).await;
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text);
        answer.text.trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        text: response.text().await.unwrap(),
    }
}

/// Asks until it is so.
pub async fn eventually(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !check().await {
        assert!(Instant::now() < deadline, "not after {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Resident memory of a process in MiB.
pub fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

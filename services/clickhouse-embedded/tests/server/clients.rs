//! clickhouse-connect and clickhouse-go, as their users get them. The clickhouse crate is what the
//! other files ask with.
//!
//! Python makes itself an environment from `tests/clients/requirements.txt` (versions and sums), and
//! has Go from there as well; Go's modules are those of `tests/clients/go/go.sum`. All of it stays
//! below `target/`, for the next time.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::common::Server;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients")
}

/// Runs a program, with its words in the failure if it fails.
async fn run(what: &'static str, mut command: Command) -> Output {
    let run = tokio::task::spawn_blocking(move || {
        let output = command.output();
        output.unwrap_or_else(|error| panic!("{what}: cannot run {command:?}: {error}"))
    });
    let output = tokio::time::timeout(Duration::from_secs(600), run)
        .await
        .unwrap_or_else(|_| panic!("{what}: not done after 10 minutes"))
        .unwrap();
    assert!(
        output.status.success(),
        "{what} failed ({}):\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The environment's programs, made anew where the requirements changed.
async fn environment() -> &'static PathBuf {
    static ENVIRONMENT: OnceCell<PathBuf> = OnceCell::const_new();
    ENVIRONMENT
        .get_or_init(|| async {
            let requirements = sources().join("requirements.txt");
            let sum = Sha256::digest(std::fs::read(&requirements).unwrap());
            let sum: String = sum.iter().take(6).map(|b| format!("{b:02x}")).collect();
            let folder = target().join(format!("python-{sum}"));
            let bin = folder.join("bin");
            if folder.join("complete").is_file() {
                return bin;
            }
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(target()).unwrap();
            let mut venv = Command::new("python3");
            venv.args(["-m", "venv"]).arg(&folder);
            run("python3 -m venv (Debian: package python3-venv)", venv).await;
            let mut pip = Command::new(bin.join("pip"));
            pip.args(["install", "--quiet", "--disable-pip-version-check"])
                .args(["--require-hashes", "--only-binary", ":all:", "-r"])
                .arg(&requirements);
            run("pip install", pip).await;
            std::fs::write(folder.join("complete"), "").unwrap();
            bin
        })
        .await
}

#[tokio::test]
async fn clickhouse_connect_gets_what_it_asks_for() {
    let bin = environment().await;
    let server = Server::start().await;
    let mut python = Command::new(bin.join("python"));
    python
        .arg(sources().join("connect.py"))
        .arg(server.port().to_string());
    let output = run("connect.py", python).await;
    assert_eq!(output.stdout, b"clickhouse-connect: ok\n");
}

#[tokio::test]
async fn clickhouse_go_gets_what_it_asks_for() {
    let bin = environment().await;
    let program = target().join("clickhouse-go");
    let mut go = Command::new(bin.join("go"));
    go.args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(sources().join("go"))
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false")
        .env("CGO_ENABLED", "0")
        .env("GOPATH", target().join("go"))
        .env("GOCACHE", target().join("go-build"));
    run("go build", go).await;
    let server = Server::start().await;
    let mut command = Command::new(&program);
    command.arg(server.address());
    let output = run("clickhouse-go", command).await;
    assert_eq!(output.stdout, b"clickhouse-go: ok\n");
}

//! Logins over TLS (SASL_SSL, SCRAM) on three brokers: what is wrong is told, nothing is lost, and when it is repaired the agent goes
//! on by itself.

use crate::{LIMIT, acknowledged, caught_up, home};
use rdkafka::admin::ResourceSpecifier;
use serde_json::json;
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::daemon::Daemon;
use tests::scene::Scene;
use tests::trio::{ALL, Trio};
use tests::writer::Writer;
use tests::{stack, wait};

/// Lines a second, over all files.
const RATE: u64 = 200;

/// From the repair until everything written is in Kafka.
const REPAIRED_MAX: Duration = Duration::from_secs(30);

/// As whom the agent logs in.
const USER: &str = "tester";

/// Its password on the brokers, as deploy/stack/kafka makes them.
const PASSWORD: &str = "tester-secret";

/// What no log may hold: parts of the right password and of a wrong one.
const SECRETS: [&str; 2] = ["-secret", "4711"];

/// The brokers ask for a new login that often, and take certificates of any name in the place of their own.
const SETTINGS: &str = "connections.max.reauth.ms=5000\nssl.allow.dn.changes=true\nssl.allow.san.changes=true";

struct Bench {
    trio: Trio,
    agent: Daemon,
    writer: Writer,
}

#[test]
fn with_a_wrong_password_or_certificate_nothing_is_lost_and_the_repair_is_enough() {
    let trio = Trio::start_secure(&home("login"), SETTINGS).expect("three brokers start");
    let scene = Scene::without_node("login", 3, trio.cluster.clone(), stack::shared().node);
    let secret = scene.folder.join("password");
    std::fs::write(&secret, "canary-4711\n").expect("written");
    let mut start = scene.agent();
    start.config["kafka"]["brokers"] = json!(trio.sasl_ssl());
    start.config["kafka"]["librdkafka"] = json!({
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": USER,
        "sasl.password": format!("${{file:{}}}", secret.display()),
        "ssl.ca.location": trio.tls("ca.crt"),
    });
    let writer = Writer::start(scene.load(3, 10_000_000, RATE, 0));
    let agent = start.spawn().expect("the agent starts");
    let mut bench = Bench { trio, agent, writer };

    bench.told("wrong password", 0, &["Authentication failed"]);
    assert_eq!(scene.cluster.count(&scene.topic).expect("the brokers answer"), 0);
    std::fs::write(&secret, format!("{PASSWORD}\n")).expect("written");
    bench.repaired("wrong password");

    let mark = bench.agent.log().len();
    bench.set_password("another one");
    bench.told("password changed under way", mark, &["Authentication failed"]);
    bench.stands_still();
    bench.set_password(PASSWORD);
    bench.repaired("password changed under way");

    // A handshake takes place only on a new connection: a refused password ends the old ones.
    bench.set_password("another one");
    bench.stands_still();
    bench.set_certificate("misnamed");
    let mark = bench.agent.log().len();
    bench.set_password(PASSWORD);
    bench.told("host name does not match", mark, &["certificate", "another host name"]);
    bench.stands_still();
    bench.set_certificate("server");
    bench.repaired("host name does not match");

    bench.set_certificate("stranger");
    assert!(bench.agent.stop(LIMIT).success());
    bench.agent = start.spawn().expect("the agent starts again");
    bench.told("certificate of another CA", 0, &["certificate", "ssl.ca.location does not hold"]);
    bench.set_certificate("server");
    let before = scene.cluster.count(&scene.topic).expect("the brokers answer");
    let repaired = wait::now();
    wait::wait_for("all that is written is in Kafka", LIMIT, || {
        let written = bench.writer.lines();
        let count = scene.cluster.count(&scene.topic).map_err(|error| error.to_string())?;
        wait::met(count + RATE >= written, || format!("{count} of {written}, {before} before"))
    });
    judge("certificate of another CA", repaired.elapsed());

    let Bench { trio, mut agent, writer } = bench;
    let written = writer.end().expect("the lines are written");
    scene.wait_shipped(written.values().sum(), LIMIT);
    scene.check_equations(Some(&agent), None);
    let report = scene.audit_topic(&written, &[]).expect("the topic reads back");
    eprintln!("figures access: {report}");
    assert!(report.is_clean(), "{report}");
    assert!(agent.stop(LIMIT).success());
    let log = std::fs::read_to_string(scene.folder.join("agent.log")).expect("it has a log");
    let told: Vec<_> = SECRETS.iter().filter(|secret| log.contains(**secret)).collect();
    assert!(told.is_empty(), "{told:?} is in the log");
    drop(trio);
}

fn judge(what: &str, waited: Duration) {
    eprintln!("figures access: {what}: all acknowledged {waited:.1?} after the repair");
    assert!(waited <= REPAIRED_MAX, "{what}: {waited:?}");
}

impl Bench {
    /// Waits for the message, which names one of the brokers and the user.
    fn told(&self, what: &str, mark: usize, words: &[&str]) {
        let words = [words, &["127.0.0.1:", USER]].concat();
        let line = self.agent.wait_log_from(mark, &words, LIMIT);
        eprintln!("figures access: {what}: {line}");
        assert!(self.trio.sasl_ssl().iter().any(|broker| line.contains(broker)), "{line}");
    }

    /// Waits until the agent can send nothing more.
    fn stands_still(&self) {
        let mut before = acknowledged(&self.agent).expect("it has metrics");
        let (mut since, still) = (wait::now(), Duration::from_secs(2));
        wait::wait_for("nothing more is acknowledged", LIMIT, || {
            let now = acknowledged(&self.agent)?;
            if now != before {
                (before, since) = (now, wait::now());
            }
            wait::met(since.elapsed() >= still, || format!("{now} acknowledged, of {}", self.writer.lines()))
        });
    }

    fn repaired(&self, what: &str) {
        judge(what, caught_up(&self.agent, &self.writer, RATE, LIMIT));
    }

    /// The brokers expect this one from now on.
    fn set_password(&self, password: &str) {
        let scram = format!("SCRAM-SHA-512=[iterations=4096,password={password}]");
        let words =
            ["kafka.admin.ConfigCommand", "--bootstrap-server", &self.trio.cluster.brokers, "--alter", "--add-config"];
        let user = ["--entity-type", "users", "--entity-name", USER];
        stack::kafka_tool(&[words.as_slice(), &[&scram], &user].concat(), b"").expect("the password is set");
    }

    /// The brokers show this certificate on new connections, when this returns.
    fn set_certificate(&self, name: &str) {
        let path = self.trio.tls(&format!("{name}.pem")).display().to_string();
        for (broker, address) in ALL.into_iter().zip(self.trio.sasl_ssl()) {
            let set = [("listener.name.sasl_ssl.ssl.keystore.location", path.as_str())];
            self.trio.cluster.set(ResourceSpecifier::Broker(broker), &set).expect("the broker takes the certificate");
            wait::wait_for("the certificate is shown", LIMIT, || {
                let shown = shown(&address).map_err(|error| error.to_string())?;
                wait::met(shown.contains(&format!("CN = {name}\n")), || shown)
            });
        }
    }
}

/// Whose certificate the broker at `address` shows.
fn shown(address: &str) -> std::io::Result<String> {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-nameopt", "sep_comma_plus_space,space_eq", "-connect", address]);
    let output = client.stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter(|line| line.starts_with("subject=")).map(|line| format!("{line}\n")).collect())
}

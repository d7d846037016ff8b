//! Plans as a configuration has them.

use super::*;

fn load(yaml: &str) -> Result<Vec<Plan>, String> {
    load_with(yaml, "dead_letter_topic: logs-dead")
}

fn load_with(yaml: &str, kafka: &str) -> Result<Vec<Plan>, String> {
    let configs: Vec<PlanConfig> =
        service::load::parse_config("agent.yaml".as_ref(), yaml).map_err(|error| error.to_string())?;
    let kafka = format!("{{brokers: ['a:9092'], {kafka}}}");
    let kafka = service::load::parse_config("agent.yaml".as_ref(), &kafka).map_err(|error| error.to_string())?;
    compile(&configs, &kafka, Some(&["nginx", "app"])).map_err(|error| format!("agent.yaml{error}"))
}

#[track_caller]
fn refuse(keys: &str, reason: &str) {
    let error = load(&format!("- name: a\n  {keys}\n")).expect_err("is refused");
    assert!(error.contains(reason) && error.starts_with("agent.yaml:"), "{keys}: {error}");
}

#[test]
fn the_plan_of_the_design_is_understood() {
    let yaml = r#"
- name: shop-daytime
  match: {input: [nginx], priority: [normal, low]}
  scope: input
  rate: {bytes: 20MiB/s, events: 50000/s}
  burst: 2s
  window: bucket
  schedule: "Mon-Fri 08:00-20:00 Asia/Shanghai"
  shares: {high: 50, normal: 35, low: 15}
  excess: {divert: logs-later}
"#;
    let plan = &load(yaml).expect("valid")[0];
    let second = Duration::from_secs(1);
    assert_eq!(plan.bytes, Some(Rate { amount: 20 << 20, period: second }));
    assert_eq!(plan.events, Some(Rate { amount: 50_000, period: second }));
    assert_eq!((plan.burst, plan.window, &plan.scope), (2 * second, Window::Bucket, &Scope::Input));
    assert_eq!((plan.shares, &plan.excess), (Some([50, 35, 15]), &Excess::Divert("logs-later".into())));
    let few = &load("[{name: a, rate: {events: 6/m}}]").expect("valid")[0];
    assert_eq!((few.burst, &few.scope, &few.excess, few.shares), (second, &Scope::Host, &Excess::Wait, None));
    assert_eq!(few.events.expect("is given").within(Duration::from_secs(100)), 10);
}

#[test]
fn a_value_that_cannot_be_read_is_told_with_its_place() {
    let error = load("- name: a\n  rate: {bytes: 20MiB}\n").expect_err("is refused");
    assert!(error.starts_with("agent.yaml:2:17: `20MiB` is no rate of bytes"), "{error}");
    refuse("rate: {events: 0/s}", "`0/s` is no rate of events");
    refuse("rate: {events: 5/d}", "is no rate of events");
    refuse("rate: {events: 5/s}\n  window: fixed", "`fixed` is no window");
    refuse("rate: {events: 5/s}\n  window: fixed:100ms", "a window is 1s to 24h");
    refuse("rate: {events: 5/s}\n  scope: topic", "`topic` is no scope");
    refuse("rate: {events: 5/s}\n  scope: 'field:'", "is no scope");
    refuse("rate: {events: 5/s}\n  excess: hold", "`hold` is no excess");
    refuse("rate: {events: 5/s}\n  excess: {devert: a}", "unknown field `devert`");
    refuse("rate: {events: 5/s}\n  burst: 2d", "between 1ms and 24h");
    refuse("rate: {events: 5/s}\n  schedule: Mon-Fry", "`Fry` is no day");
    refuse("rate: {events: 5/s}\n  burts: 2s", "unknown field `burts`");
    refuse("scope: host", "missing field `rate`");
}

#[test]
fn with_transactions_nothing_is_diverted() {
    let plan = |excess: &str| format!("- name: a\n  rate: {{events: 5/s}}\n  excess: {excess}\n");
    let error = load_with(&plan("{divert: later}"), "delivery: exactly_once").expect_err("is refused");
    assert!(error.starts_with("agent.yaml:1:9: limit \"a\": excess.divert: not with kafka.delivery"), "{error}");
    for excess in ["wait", "drop"] {
        load_with(&plan(excess), "delivery: exactly_once").expect("valid");
    }
    load_with(&plan("{divert: later}"), "delivery: at_least_once").expect("valid");
}

#[test]
fn a_plan_that_cannot_work_is_told_with_the_place_of_its_name() {
    let error = load("- {name: a, rate: {}}\n").expect_err("is refused");
    assert!(error.starts_with("agent.yaml:1:10: limit \"a\": rate: give bytes, events or both"), "{error}");
    refuse("rate: {events: 5/s}\n  window: fixed:1m\n  burst: 1s", "burst is for window: bucket");
    refuse("rate: {events: 5/s}\n  match: {input: [ngnix]}", "there is no input \"ngnix\"");
    refuse("rate: {events: 5/s}\n  shares: {high: 90, low: 20}", "add up to 110");
    refuse("rate: {events: 5/s}\n  shares: {}", "add up to 0");
    refuse("rate: {events: 5/s}\n  scope: priority\n  shares: {high: 9}", "a limit of its own already");
    refuse("rate: {events: 5/s}\n  excess: {divert: logs}", "is kafka.topic itself");
    refuse("rate: {events: 5/s}\n  excess: {divert: logs-dead}", "is kafka.dead_letter_topic itself");
    refuse("rate: {events: 5/s}\n  excess: {divert: a/b}", "is not a topic name");
    let twice = "- {name: a, rate: {events: 1/s}}\n- {name: a, rate: {events: 2/s}}\n";
    let error = load(twice).expect_err("is refused");
    assert!(error.starts_with("agent.yaml:2:10: ") && error.contains("used by an earlier plan"), "{error}");
}

//! The outcome table, line by line.

use super::*;

fn http(status: u16, body: &str) -> Answer {
    Answer::Http { status, body: bytes::Bytes::copy_from_slice(body.as_bytes()), retry_after: None }
}

/// A one-word form of a verdict, so that a table line fits a line.
fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Items(fates) => fates.iter().map(fate_word).collect::<Vec<_>>().join(" "),
        Verdict::Resend { reason, .. } => format!("resend:{reason}"),
        Verdict::Halve(cause) => format!("halve:{}", cause.status),
        Verdict::Bisect(cause) => format!("bisect:{}", cause.status),
        Verdict::Alarm(cause) => format!("alarm:{}", cause.status),
    }
}

fn fate_word(fate: &Fate) -> String {
    match fate {
        Fate::Done(false) => "done".to_owned(),
        Fate::Done(true) => "failure_store".to_owned(),
        Fate::Duplicate => "duplicate".to_owned(),
        Fate::Retry(reason) => format!("retry:{reason}"),
        Fate::Dead(cause) => format!("dead:{}:{}", cause.status, cause.kind),
    }
}

#[track_caller]
fn check_item(status: u16, kind: &str, expected: &str) {
    let error = if kind.is_empty() { String::new() } else { format!(r#","error":{{"type":"{kind}","reason":"r"}}"#) };
    let body = format!(r#"{{"errors":true,"items":[{{"create":{{"status":{status}{error}}}}}]}}"#);
    assert_eq!(word(&settle(&http(200, &body), 1, true)), expected, "item {status} {kind}");
}

#[track_caller]
fn check_request(status: u16, body: &str, expected: &str) {
    assert_eq!(word(&settle(&http(status, body), 1, true)), expected, "request {status} {body}");
}

#[test]
fn each_item_status_has_its_fate() {
    for status in 0..=999_u16 {
        let expected = match status {
            200..=299 => "done".to_owned(),
            409 => "duplicate".to_owned(),
            429 => "retry:busy".to_owned(),
            500..=599 => "retry:server_error".to_owned(),
            _ => format!("dead:{status}:status_{status}"),
        };
        check_item(status, "", &expected);
    }
}

#[test]
fn each_kind_of_item_error_has_its_fate() {
    check_item(409, "version_conflict_engine_exception", "duplicate");
    check_item(409, "illegal_state_exception", "dead:409:illegal_state_exception");
    check_item(429, "es_rejected_execution_exception", "retry:busy");
    check_item(429, "circuit_breaking_exception", "retry:busy");
    check_item(429, "cluster_block_exception", "retry:blocked"); // Flood stage, since Elasticsearch 7.7.
    check_item(403, "cluster_block_exception", "retry:blocked"); // Flood stage before that, and OpenSearch.
    check_item(403, "security_exception", "dead:403:security_exception");
    check_item(404, "index_not_found_exception", "dead:404:index_not_found_exception");
    check_item(400, "mapper_parsing_exception", "dead:400:mapper_parsing_exception");
    check_item(400, "document_parsing_exception", "dead:400:document_parsing_exception");
    check_item(400, "illegal_argument_exception", "dead:400:illegal_argument_exception");
    check_item(503, "unavailable_shards_exception", "retry:server_error");
    check_item(500, "not_x_content_exception", "retry:server_error");
}

#[test]
fn a_conflict_without_our_id_is_no_success() {
    let body = r#"{"errors":true,"items":[{"create":{"status":409}}]}"#;
    assert_eq!(word(&settle(&http(200, body), 1, false)), "dead:409:status_409");
}

#[test]
fn each_request_status_has_its_verdict() {
    for status in 100..=999_u16 {
        let expected = match status {
            200..=299 => "resend:unknown_outcome".to_owned(),
            413 => "halve:413".to_owned(),
            400 => "bisect:400".to_owned(),
            429 => "resend:busy".to_owned(),
            408 | 500 | 502..=599 => "resend:server_error".to_owned(),
            _ => format!("alarm:{status}"), // 401, 403, 404, 405, 501, redirects.
        };
        check_request(status, "", &expected);
    }
}

#[test]
fn a_block_of_the_whole_request_is_waited_out() {
    let block = r#"{"error":{"type":"cluster_block_exception","reason":"blocked by: [FORBIDDEN/12/index read-only]"},"status":403}"#;
    check_request(403, block, "resend:blocked");
    check_request(403, r#"{"error":{"type":"security_exception","reason":"no"},"status":403}"#, "alarm:403");
    check_request(401, r#"{"error":"unauthorized","status":401}"#, "alarm:401");
}

#[test]
fn what_is_not_understood_completely_is_an_unknown_outcome() {
    let one = r#"{"errors":false,"items":[{"create":{"status":201}}]}"#;
    check_request(200, one, "done");
    check_request(201, one, "done");
    for body in [
        "<html><body>welcome</body></html>",
        "",
        "{}",
        "null",
        r#"{"items":[{"create":{"status":201}}]}"#,
        r#"{"errors":false,"items":[]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}"#,
        r#"{"errors":false,"items":[{"create":{}}]}"#,
        r#"{"errors":false,"items":[{}]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201},"index":{"status":201}}]}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}}"#,
        r#"{"errors":false,"items":[{"create":{"status":201}}]}{"#,
        r#"{"errors":false,"items":[{"create":{"status":"201"}}]}"#,
    ] {
        check_request(200, body, "resend:unknown_outcome");
    }
    let lost = settle(&Answer::Nothing("connection reset".to_owned()), 1, true);
    assert_eq!(word(&lost), "resend:no_answer");
}

#[test]
fn a_mixed_answer_is_settled_item_by_item() {
    let body = r#" { "took": 3, "errors": true, "items": [
        {"create": {"_id": "a", "status": 201}},
        {"create": {"_id": "b", "status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "queue full"}}},
        {"create": {"_id": "c", "status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "exists"}}},
        {"create": {"_id": "d", "status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed to parse",
            "caused_by": {"type": "illegal_argument_exception", "reason": "For input string: \"x\""}}}},
        {"create": {"_id": "e", "status": 201, "failure_store": "used"}},
        {"create": {"_id": "f", "status": 201, "failure_store": "not_applicable_or_unknown"}} ] }"#;
    let verdict = settle(&http(200, body), 6, true);
    assert_eq!(word(&verdict), "done retry:busy duplicate dead:400:mapper_parsing_exception failure_store done");
    let Verdict::Items(fates) = verdict else { return };
    let Fate::Dead(cause) = &fates[3] else { return };
    assert_eq!(
        cause.reason,
        "mapper_parsing_exception: failed to parse; caused by illegal_argument_exception: For input string: \"x\""
    );
}

#[test]
fn the_node_says_how_long_to_wait_but_not_for_ever() {
    for (asked, granted) in [(5, 5), (3600, 60)] {
        let body = bytes::Bytes::new();
        let answer = Answer::Http { status: 429, body, retry_after: Some(Duration::from_secs(asked)) };
        let Verdict::Resend { after, .. } = settle(&answer, 1, true) else {
            assert_eq!(word(&settle(&answer, 1, true)), "resend:busy");
            continue;
        };
        assert_eq!(after, Some(Duration::from_secs(granted)));
    }
}

use super::*;

fn content(lines: u64, places: usize) -> Content {
    let line = |seq| Line { offset: seq * 10, is_owed: true };
    Content {
        lines: (0..lines).map(line).collect(),
        places,
        paths: BTreeSet::from(["/a.log".to_owned()]),
        torn: vec![],
    }
}

/// Three lines of `a`.
fn truth() -> Truth {
    Truth::from([("a".to_owned(), content(3, 1))])
}

/// The line `seq` of `file`, sent by `life`, at `offset` of partition 0.
fn arrival(file: &str, seq: u64, life: usize, offset: i64) -> Arrival {
    Arrival {
        read: Read::Whole(Name { file: file.to_owned(), seq }),
        text: String::new(),
        id: format!("incarnati{file}-{seq}"),
        path: "/a.log".to_owned(),
        at: seq * 10,
        is_reread: life > 0,
        life,
        place: (0, offset),
        sent_ms: offset,
        sum: u32::try_from(seq).expect("small"),
    }
}

fn all() -> Vec<Arrival> {
    vec![arrival("a", 0, 0, 0), arrival("a", 1, 0, 1), arrival("a", 2, 0, 2)]
}

/// `expected`: what the findings contain, in order; of two lives, the first killed.
#[track_caller]
fn check(truth: &Truth, arrivals: &[Arrival], expected: &[&str]) {
    check_lives(truth, arrivals, &[Life::default(); 2], expected);
}

#[track_caller]
fn check_lives(truth: &Truth, arrivals: &[Arrival], lives: &[Life], expected: &[&str]) {
    let findings: Vec<_> = judge(truth, arrivals, lives).iter().map(ToString::to_string).collect();
    assert_eq!(findings.len(), expected.len(), "{findings:#?}");
    for (finding, expected) in findings.iter().zip(expected) {
        assert!(finding.contains(expected), "{finding:?} does not say {expected:?}");
    }
}

#[test]
fn every_line_once_is_good() {
    check(&truth(), &all(), &[]);
}

#[test]
fn a_missing_line_is_named_if_it_is_owed() {
    check(&truth(), &all()[1..], &["a#0 is missing"]);
    let mut truth = truth();
    truth.get_mut("a").expect("there").lines[0].is_owed = false;
    check(&truth, &all()[1..], &[]);
}

#[test]
fn what_was_not_written_there_is_found() {
    let with = |change: fn(&mut Arrival)| {
        let mut arrivals = all();
        change(&mut arrivals[2]);
        arrivals
    };
    check(&truth(), &with(|a| a.read = Read::Foreign), &["a foreign line", "a#2 is missing"]);
    let damaged = with(|a| a.read = Read::Damaged(Name { file: "a".to_owned(), seq: 2 }));
    check(&truth(), &damaged, &["a#2 is damaged", "a#2 is missing"]);
    check(&truth(), &with(|a| a.at = 21), &["a#2 stands at 20", "a#2 is missing"]);
    check(&truth(), &with(|a| a.path = "/b.log".to_owned()), &["a#2 never had that path", "a#2 is missing"]);
    let mut beyond = all();
    beyond.push(arrival("a", 3, 0, 3));
    check(&truth(), &beyond, &["a#3 was never written"]);
}

#[test]
fn an_unfinished_line_may_come_in_pieces_the_same_in_each_life() {
    let mut truth = truth();
    truth.get_mut("a").expect("there").torn = vec![Torn { offset: 30, text: "aé|b".to_owned() }];
    let piece = |at, text: &str, life, place| Arrival {
        read: Read::Foreign,
        text: text.to_owned(),
        at,
        ..arrival("a", 3, life, place)
    };
    let with = |more: &[Arrival]| [&all(), more].concat();
    check(&truth, &with(&[piece(30, "a\u{fffd}", 0, 3), piece(32, "\u{fffd}|b", 0, 4)]), &[]);
    check(&truth, &with(&[piece(30, "a|", 0, 3)]), &["a foreign line"]);
    check(&truth, &with(&[piece(31, "aé", 0, 3)]), &["a foreign line"]);
    check(&truth, &with(&[piece(35, "", 0, 3)]), &["a foreign line"]);
    check(&truth, &with(&[Arrival { path: "/b.log".to_owned(), ..piece(30, "a", 0, 3) }]), &["a foreign line"]);
    check(&truth, &with(&[piece(30, "a", 0, 3), piece(30, "aé", 1, 4)]), &["came as \"a\" and as"]);
}

#[test]
fn a_copy_needs_a_kill_and_the_flag() {
    let mut arrivals = all();
    arrivals.push(arrival("a", 1, 1, 3));
    arrivals.push(arrival("a", 2, 1, 4));
    check(&truth(), &arrivals, &[]);
    let orderly = [Life { is_orderly: true, ..Life::default() }, Life::default()];
    check_lives(&truth(), &arrivals, &orderly, &["a#1 came again: 0:1 and 0:3, of lives 0 and 1", "a#2 came again"]);
    arrivals[4].is_reread = false;
    check(&truth(), &arrivals, &["a#2 came again: 0:2 and 0:4, in life 1 without the flag"]);
}

#[test]
fn a_copy_within_a_life_is_the_same_record_from_before_the_end_of_an_outage() {
    let mut arrivals = all();
    arrivals.push(Arrival { place: (0, 3), ..arrivals[2].clone() });
    check(&truth(), &arrivals, &["both of life 0"]);
    let outage = |until| [Life { outage_until_ms: Some(until), ..Life::default() }];
    check_lives(&truth(), &arrivals, &outage(2), &[]);
    check_lives(&truth(), &arrivals, &outage(1), &["both of life 0"]);
    arrivals[3].sum += 1;
    check_lives(&truth(), &arrivals, &outage(2), &["both of life 0"]);
}

#[test]
fn a_line_has_as_many_ids_as_files_hold_it() {
    let mut arrivals = all();
    let mut copy = arrival("a", 2, 1, 3);
    copy.id = "anotherincarnation".to_owned();
    arrivals.push(copy);
    check(&truth(), &arrivals, &["a#2 has 2 ids, 1 allowed", "another incarnation"]);
    check(&Truth::from([("a".to_owned(), content(3, 2))]), &arrivals, &[]);
}

#[test]
fn an_incarnation_is_of_one_content() {
    let mut truth = truth();
    truth.insert("b".to_owned(), content(1, 1));
    let mut arrivals = all();
    arrivals.push(arrival("b", 0, 0, 3));
    check(&truth, &arrivals, &[]);
    arrivals[3].id = arrivals[0].id.clone() + "x";
    check(&truth, &arrivals, &["b#0 has the incarnation of a"]);
}

#[test]
fn an_earlier_line_comes_later_only_if_it_came_before() {
    let arrivals = [arrival("a", 0, 0, 0), arrival("a", 2, 0, 1), arrival("a", 1, 0, 2)];
    check(
        &truth(),
        &arrivals,
        &["a#1 came after #2, counted over life 0", "a#1 came after #2, counted over all lives"],
    );
    let again = [arrival("a", 0, 0, 0), arrival("a", 2, 0, 1), arrival("a", 0, 1, 2), arrival("a", 1, 1, 3)];
    check(&truth(), &again, &["a#1 came after #2, counted over all lives"]);
}

#[test]
fn a_life_keeps_an_incarnation_in_one_partition() {
    let mut arrivals = all();
    arrivals[2].place = (1, 0);
    check(&truth(), &arrivals, &["a#2 stands in partition 1, others of life 0 in 0"]);
}

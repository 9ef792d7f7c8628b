//! The book's decisions, with a clock of numbers.

use super::*;

const MINUTE: u64 = 60_000;

fn book(per_hour: u32) -> Book {
    Book::new(Pace { per_hour, retry: Duration::from_secs(60) }, 0)
}

fn name(text: &str) -> HostName {
    HostName::parse(&format!("{text}.example")).unwrap()
}

#[test]
fn a_name_has_one_order_at_once_and_none_while_its_certificate_is_fresh() {
    let mut book = book(10);
    assert!(book.ask(&name("a")) && book.ask(&name("a")));
    assert_eq!(book.next(0), Some(name("a")));
    assert_eq!(book.next(0), None, "it is under way");
    book.issued(&name("a"), 0, Times { from: 0, until: 90 * MINUTE });
    book.ask(&name("a"));
    assert_eq!(book.next(59 * MINUTE), None);
    assert_eq!(book.next(60 * MINUTE), Some(name("a")), "a third of its life is left");
}

#[test]
fn after_failures_the_delay_doubles_up_to_a_bound_and_the_certificate_stays() {
    let mut book = book(10);
    let times = Times { from: 0, until: 30 };
    book.hold(name("a"), times);
    let mut now = 20;
    let mut delays = Vec::new();
    for _ in 0..12 {
        assert_eq!(book.next(now), Some(name("a")));
        let next = book.failed(&name("a"), now, Setback::default());
        assert_eq!(book.next(next - 1), None);
        delays.push((next - now) / MINUTE);
        now = next;
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
    assert_eq!(book.counts(), Counts { held: 1, failing: 1, first_to_expire: Some(30) });
    book.next(now);
    book.issued(&name("a"), now, Times { from: now, until: now + 90 });
    assert_eq!(book.next(now + 60), None, "not twice a minute, however short its life is");
    assert_eq!(book.counts().failing, 0);
}

#[test]
fn what_the_authority_asks_for_is_kept_to() {
    let mut book = book(10);
    book.ask(&name("a"));
    book.ask(&name("b"));
    let first = book.next(0).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let next = book.failed(&first, 0, Setback { retry_after: Some(day), for_all: true });
    assert_eq!(next, millis(day));
    assert_eq!(book.next(5 * MINUTE - 1), None, "the others wait a little");
    let second = book.next(5 * MINUTE).unwrap();
    assert_ne!(first, second);
    book.failed(&second, 5 * MINUTE, Setback { retry_after: Some(Duration::ZERO), for_all: false });
    assert_eq!(book.next(6 * MINUTE), Some(second));
}

#[test]
fn first_certificates_are_limited_by_the_hour_and_renewals_go_before_them() {
    let mut book = book(2);
    for n in 0..4 {
        book.ask(&name(&format!("n{n}")));
    }
    book.hold(name("old"), Times { from: 0, until: 3 });
    assert_eq!(book.next(2), Some(name("old")));
    let mut ordered = Vec::new();
    while let Some(next) = book.next(2) {
        book.issued(&next, 2, Times { from: 0, until: u64::MAX });
        ordered.push(next);
    }
    assert_eq!(ordered.len(), 2);
    assert_eq!(book.next(29 * MINUTE), None);
    assert!(book.next(31 * MINUTE).is_some());
    assert_eq!(book.next(31 * MINUTE), None);
}

#[test]
fn only_so_many_are_under_way_at_once() {
    let mut book = book(100);
    for n in 0..10 {
        book.ask(&name(&format!("n{n}")));
    }
    let begun: Vec<_> = std::iter::from_fn(|| book.next(0)).collect();
    assert_eq!(begun.len(), AT_ONCE);
    book.failed(&begun[0], 0, Setback::default());
    assert!(book.next(0).is_some() && book.next(0).is_none());
}

#[test]
fn a_name_that_is_not_served_is_forgotten_once_its_certificate_is_worthless() {
    let mut book = book(10);
    book.ask(&name("new"));
    assert_eq!(book.next(0), Some(name("new")));
    assert!(book.not_served(&name("new"), 0));
    book.hold(name("old"), Times { from: 0, until: 90 * MINUTE });
    assert_eq!(book.next(60 * MINUTE), Some(name("old")));
    assert!(!book.not_served(&name("old"), 60 * MINUTE));
    assert_eq!(book.next(61 * MINUTE), None);
    assert_eq!(book.next(120 * MINUTE), Some(name("old")));
    assert!(book.not_served(&name("old"), 120 * MINUTE));
    assert_eq!(book.counts(), Counts::default());
}

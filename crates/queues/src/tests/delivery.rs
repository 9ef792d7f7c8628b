//! When a consumer gets what.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn a_partial_batch_is_delivered_after_the_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let (queues, _stop) = open(dir.path(), clock.clock());
    let producer = queues.producer("q", None);
    let (deliver, mut inbox) = manual();
    let _consumer = queues.consume("q", ConsumerSettings::default(), deliver);
    send(&producer, "a").await;
    clock.advance_ms(4_999);
    send(&producer, "b").await;
    inbox.nothing().await;
    clock.advance_ms(1);
    let (batch, reply) = inbox.next().await;
    assert_eq!(bodies(&batch), ["a", "b"]);
    assert_eq!(batch.metrics.backlog_count, 0);
    reply.send(ok()).unwrap();
}

#[tokio::test]
async fn a_delay_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    {
        let (queues, _stop) = open(dir.path(), clock.clock());
        let producer = queues.producer("q", Some(60));
        send(&producer, "late").await;
        call(&producer, Method::POST, "/message", &[("x-msg-delay-secs", "10")], "soon").await;
    }
    let (queues, _stop) = open(dir.path(), clock.clock());
    let (deliver, mut inbox) = manual();
    let _consumer = queues.consume("q", one_by_one(), deliver);
    inbox.nothing().await;
    clock.advance_ms(10_000);
    let (batch, reply) = inbox.next().await;
    assert_eq!(bodies(&batch), ["soon"]);
    reply.send(ok()).unwrap();
    clock.advance_ms(49_999);
    inbox.nothing().await;
    clock.advance_ms(1);
    assert_eq!(bodies(&inbox.next().await.0), ["late"]);
}

#[tokio::test]
async fn a_message_is_retried_with_its_delay_then_goes_to_the_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let (queues, _stop) = open(dir.path(), clock.clock());
    let settings = ConsumerSettings {
        max_retries: 1,
        retry_delay: Some(20),
        dead_letter_queue: Some("dead".into()),
        ..one_by_one()
    };
    let (deliver, mut inbox) = manual();
    let _consumer = queues.consume("q", settings, deliver);
    send(&queues.producer("q", None), "x").await;
    let (first, reply) = inbox.next().await;
    reply.send(Ok(DeliveryOutcome::ended("exception"))).unwrap();
    inbox.nothing().await;
    clock.advance_ms(20_000);
    let (second, reply) = inbox.next().await;
    assert_eq!(second.messages[0].id, first.messages[0].id);
    assert_eq!(second.messages[0].attempts, 2);
    let own = RetryMessage { msg_id: second.messages[0].id.clone(), delay_seconds: None };
    reply.send(Ok(DeliveryOutcome { retry_messages: vec![own], ..DeliveryOutcome::ended("ok") })).unwrap();

    // Nobody named the dead letter queue before: it came to be with its first message.
    while queues.metrics("dead").unwrap().backlog_count == 0 {
        tokio::task::yield_now().await;
    }
    let (deliver, mut inbox) = manual();
    let _dead = queues.consume("dead", one_by_one(), deliver);
    let (letter, reply) = inbox.next().await;
    assert_eq!((bodies(&letter), letter.messages[0].attempts), (vec!["x".to_owned()], 1));
    assert_ne!(letter.messages[0].id, first.messages[0].id);
    assert_eq!(queues.metrics("q").unwrap().backlog_count, 0);
    reply.send(ok()).unwrap();
}

#[tokio::test]
async fn a_consumer_that_is_not_up_costs_no_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let (queues, _stop) = open(dir.path(), clock.clock());
    let (deliver, mut inbox) = manual();
    let _consumer = queues.consume("q", ConsumerSettings { max_retries: 0, ..one_by_one() }, deliver);
    send(&queues.producer("q", None), "x").await;
    for _ in 0..5 {
        let (batch, reply) = inbox.next().await;
        assert_eq!(batch.messages[0].attempts, 1);
        reply.send(Err("no cell".into())).unwrap();
        inbox.nothing().await;
        clock.advance_ms(30_000);
    }
    let (_, reply) = inbox.next().await;
    reply.send(ok()).unwrap();
}

#[tokio::test]
async fn deliveries_run_side_by_side_up_to_the_concurrency() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let producer = queues.producer("q", None);
    let (deliver, mut inbox) = manual();
    let _consumer =
        queues.consume("q", ConsumerSettings { max_concurrency: Some(3), ..one_by_one() }, deliver);
    for n in 0..5 {
        send(&producer, &n.to_string()).await;
    }
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(inbox.next().await);
    }
    inbox.nothing().await;
    let distinct: BTreeSet<String> = open.iter().flat_map(|(batch, _)| bodies(batch)).collect();
    assert_eq!(distinct.len(), 3);
    open.pop().unwrap().1.send(ok()).unwrap();
    inbox.next().await;
}

#[tokio::test]
async fn a_new_consumer_replaces_the_old_and_takes_nothing_from_its_hands() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _stop) = open(dir.path(), Clock::system());
    let producer = queues.producer("q", None);
    let (old, mut old_inbox) = manual();
    let old_handle = queues.consume("q", one_by_one(), old);
    send(&producer, "first").await;
    let (_, old_reply) = old_inbox.next().await;
    let (new, mut new_inbox) = manual();
    let new_handle = queues.consume("q", one_by_one(), new);
    send(&producer, "second").await;
    let (batch, reply) = new_inbox.next().await;
    assert_eq!(bodies(&batch), ["second"]);
    reply.send(ok()).unwrap();
    new_inbox.nothing().await;
    old_reply.send(Ok(DeliveryOutcome::ended("exception"))).unwrap();
    old_handle.stop().await;
    let (batch, reply) = new_inbox.next().await;
    assert_eq!((bodies(&batch), batch.messages[0].attempts), (vec!["first".to_owned()], 2));
    reply.send(ok()).unwrap();
    new_handle.stop().await;
    assert_eq!(queues.metrics("q").unwrap().backlog_count, 0);
    send(&producer, "third").await;
    new_inbox.nothing().await;
}

#[tokio::test]
async fn what_nobody_acknowledged_for_four_days_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let (queues, _stop) = open(dir.path(), clock.clock());
    let producer = queues.producer("q", None);
    for _ in 0..1_100 {
        send(&producer, "old").await;
    }
    clock.advance_ms(4 * 86_400_000);
    send(&producer, "new").await;
    assert_eq!(queues.expire_now().await.unwrap(), "0 messages outlived their retention");
    clock.advance_ms(1);
    assert_eq!(queues.expire_now().await.unwrap(), "1100 messages outlived their retention");
    let left = queues.metrics("q").unwrap();
    assert_eq!((left.backlog_count, left.backlog_bytes), (1, 3));
}

#[tokio::test]
async fn a_queue_says_how_long_its_messages_wait_and_how_long_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_000_000);
    let (queues, _stop) = open(dir.path(), clock.clock());
    let (own, said) = (queues.producer("q", None), queues.producer("q", Some(0)));
    send(&queues.producer("other", None), "kept").await;
    queues.configure("q", QueueSettings { delivery_delay_secs: 30, retention_secs: 60 });
    for producer in [&own, &said] {
        send(producer, "by its producer").await;
    }
    let (deliver, mut inbox) = manual();
    let _consumer = queues.consume("q", one_by_one(), deliver);
    let (_, _at_once) = inbox.next().await;
    inbox.nothing().await;
    clock.advance_ms(30_000);
    let (_, _later) = inbox.next().await;
    clock.advance_ms(30_000);
    assert_eq!(queues.expire_now().await.unwrap(), "0 messages outlived their retention");
    clock.advance_ms(1);
    assert_eq!(queues.expire_now().await.unwrap(), "2 messages outlived their retention");
    // Those that are there as well.
    queues.configure("other", QueueSettings { retention_secs: 60, ..QueueSettings::default() });
    assert_eq!(queues.expire_now().await.unwrap(), "1 messages outlived their retention");
}

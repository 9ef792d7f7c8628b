//! Queues: producers, push consumers, dead letters.

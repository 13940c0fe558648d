//! One file a resource: its wire types (`…In`, `…Out`), and its handlers.

pub mod service;

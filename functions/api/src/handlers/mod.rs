//! One file a resource: its wire types (`…In`, `…Out`), and its handlers.

pub mod candidates;
pub mod catalogue;
pub mod discoveries;
pub mod evidence;
pub mod job_sweeps;
pub mod jobs;
pub mod module_keys;
pub mod modules;
pub mod service;
pub mod stats;

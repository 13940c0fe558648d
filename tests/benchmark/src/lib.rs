//! Benchmarks only: `cargo bench --package benchmark`. `docs/performance.md` has the figures.

//! Patterns, scripts, pipelines and lines that want to do harm, or were made by an accident: none brings the engine down,
//! nor holds much memory or takes long.

mod corpus;

mod deep;
mod fuzz;
mod linear;
mod mutate;

/// Stack of the threads that run: half of what threads have.
const STACK_BYTES: usize = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "tests have no clock of a service, and what is tested takes none")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

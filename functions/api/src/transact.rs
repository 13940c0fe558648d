//! A transaction of a handler.

/// How often a transaction that collided with another runs in all (ledger.md, "Order of locks").
pub(crate) const TRIES: u32 = 3;

/// `transact!(app, |tx| { … Ok(answer) })` runs the block in a transaction, commits it if the block is `Ok`, rolls it back
/// otherwise, and runs it again, up to three times in all, if it collided with another (40001, 40P01, 55P03).
///
/// The block is evaluated anew each time, so it moves nothing out of its surroundings. `tx` is a
/// `&mut tokio_postgres::Transaction`.
macro_rules! transact {
    ($app:expr, |$tx:ident| $body:block) => {{
        let mut tries = 1;
        loop {
            let attempt: Result<_, $crate::problem::Problem> = async {
                let mut client = $app.pool.get().await?;
                let mut transaction = tokio_postgres::Client::transaction(&mut **client).await?;
                let answer: Result<_, $crate::problem::Problem> = async {
                    #[allow(unused_variables, reason = "some blocks only read")]
                    let $tx = &mut transaction;
                    $body
                }
                .await;
                let answer = answer?;
                transaction.commit().await?;
                Ok(answer)
            }
            .await;
            match attempt {
                Err(problem) if problem.is_collision() && tries < $crate::transact::TRIES => tries += 1,
                other => break other,
            }
        }
    }};
}

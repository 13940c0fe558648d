//! Every statement of the ledger fits the schema and the rights of the functions' role.

use testdb::TestDb;

#[tokio::test]
async fn every_statement_prepares_as_the_functions_role() {
    let db = TestDb::new().await;
    let app = db.app().await;
    let statements = ledger::statements();
    assert!(statements.len() > 20);
    for statement in &statements {
        if let Err(error) = app.prepare_typed(statement.sql, statement.types).await {
            panic!("{}: {error:?}\n{}", statement.name, statement.sql);
        }
    }
    let mut names: Vec<_> = statements.iter().map(|statement| statement.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), statements.len(), "two statements share a name");
}

//! Every statement fits the schema and the rights of the functions' role.

use std::collections::BTreeSet;
use testdb::TestDb;

#[tokio::test]
async fn every_statement_fits_the_schema_and_the_functions_rights() {
    let db = TestDb::new().await;
    let client = db.app().await;
    let mut problems = Vec::new();
    for (number, statement) in store::statements().iter().enumerate() {
        let types: Vec<&str> = statement.types.iter().map(|ty| ty.name()).collect();
        let nulls = vec!["NULL"; types.len()].join(", ");
        let list = |items: &str| if items.is_empty() { String::new() } else { format!("({items})") };
        // Preparing checks names and types; only explaining an execution asks for the rights.
        let script = format!(
            "PREPARE statement_{number} {} AS {}; EXPLAIN EXECUTE statement_{number} {}",
            list(&types.join(", ")),
            statement.sql,
            list(&nulls)
        );
        if let Err(error) = client.batch_execute(&script).await {
            let detail = error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
            problems.push(format!("{}: {detail}", statement.name));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn no_two_statements_have_one_name() {
    let mut names = BTreeSet::new();
    for statement in store::statements() {
        assert!(names.insert(statement.name), "{}", statement.name);
    }
}

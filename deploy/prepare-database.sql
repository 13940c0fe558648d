-- Once, as the database's master user: who owns the schema, and the database itself. docs/deploy.md says when.
-- The migrations make the functions' role, callboard_app, and let it sign in with IAM as well.
CREATE ROLE callboard_owner LOGIN CREATEROLE;
-- So that it may hand IAM sign-in on to callboard_app.
GRANT rds_iam TO callboard_owner WITH ADMIN OPTION;
-- A master user is no superuser: it makes a database for a role that it is a member of.
GRANT callboard_owner TO CURRENT_USER;
CREATE DATABASE callboard OWNER callboard_owner;

-- Größe, with a finding of each severity and one statement that cannot be read
SELECT u.id FROM users u LEFT JOIN orders o ON o.user_id = u.id
WHERE o.total > 5;
SELECT name FROM users WHERE deleted_at = NULL;
SELECT * FROM "a|b` <i>";
SELECT FROM WHERE;
-- sqladvisor: ignore query/select-star the export wants every column
SELECT * FROM users;

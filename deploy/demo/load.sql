-- One round of a small shop, so that no panel of the dashboards stays empty. Run again and again by load.sh.
CREATE TABLE IF NOT EXISTS demo_orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer int NOT NULL,
    status text NOT NULL DEFAULT 'new',
    amount numeric(12,2) NOT NULL,
    placed timestamptz NOT NULL DEFAULT now()
);
INSERT INTO demo_orders (customer, amount)
    SELECT 1 + (random() * 5000)::int, round((random() * 500)::numeric, 2) FROM generate_series(1, 500);
-- No index leads to a customer: the optimizer notices.
SELECT count(*), sum(amount) FROM demo_orders WHERE customer = 17;
SELECT count(*), sum(amount) FROM demo_orders WHERE customer = 42;
SELECT count(*), sum(amount) FROM demo_orders WHERE customer = 170;
SELECT count(*), sum(amount) FROM demo_orders WHERE customer = 1042;
SELECT count(*), sum(amount) FROM demo_orders WHERE customer = 2017;
SELECT count(*), sum(amount) FROM demo_orders WHERE customer = 4242;
SELECT status, count(*), avg(amount) FROM demo_orders GROUP BY status ORDER BY status;
SELECT * FROM demo_orders WHERE id = 1;
SELECT * FROM demo_orders WHERE id = 77;
UPDATE demo_orders SET status = 'paid' WHERE id IN (SELECT id FROM demo_orders WHERE status = 'new' ORDER BY id LIMIT 200);
BEGIN;
UPDATE demo_orders SET status = 'sent' WHERE id IN (SELECT id FROM demo_orders WHERE status = 'paid' ORDER BY id LIMIT 100);
ROLLBACK;
DELETE FROM demo_orders WHERE id IN (SELECT id FROM demo_orders WHERE status = 'paid' ORDER BY id LIMIT 100);

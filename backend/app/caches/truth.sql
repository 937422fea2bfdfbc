-- The rule of what the caches should hold. It is stated here and nowhere else.
-- A product is mapped when it is active, its company is active and that company has a city.
-- A company is mapped when it is active and has a city. Every city of the catalog has counts.

CREATE OR REPLACE VIEW company_city_truth AS
SELECT id AS company_id, city_id
  FROM companies
 WHERE is_active AND city_id IS NOT NULL;

CREATE OR REPLACE VIEW product_city_truth AS
SELECT products.id AS product_id, company.city_id, products.company_id, products.kind
  FROM products
  JOIN company_city_truth AS company USING (company_id)
 WHERE products.is_active;

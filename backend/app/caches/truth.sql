-- The rule of what the caches should hold. It is stated here and nowhere else.
-- A company is mapped when it is active and has a city that exists.
-- A product is mapped when it is active, is goods or a service, and its company is mapped. Every city has counts.
-- Where companies and products are, and when they are active, the catalog's definition says.

CREATE OR REPLACE VIEW company_city_truth AS
SELECT company.id AS company_id, company.city_id
  FROM catalog_companies AS company
  JOIN catalog_cities AS city ON city.id = company.city_id
 WHERE company.is_active;

CREATE OR REPLACE VIEW product_city_truth AS
SELECT product.id AS product_id, company.city_id, product.company_id, product.kind
  FROM catalog_products AS product
  JOIN company_city_truth AS company USING (company_id)
 WHERE product.is_active AND product.kind IN ('product', 'service');

"""What starts servers and processes on this machine: PostgreSQL, RabbitMQ, the parts of citycache."""

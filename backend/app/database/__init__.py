"""What a connection to PostgreSQL is before it is used: which server it leads to, and what its session is asked for;
and which schema it finds there."""

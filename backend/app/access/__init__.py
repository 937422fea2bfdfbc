"""Who may reach the system, and where its servers are."""

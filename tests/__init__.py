"""The tests: unit, contract, integration, acceptance and faults."""

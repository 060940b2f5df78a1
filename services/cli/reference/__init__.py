"""Files that are generated from the contract and the settings, so that each fact is written once."""

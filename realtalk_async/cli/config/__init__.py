"""The configuration of `realtalk-async run`: TOML file, Procfile, .env."""

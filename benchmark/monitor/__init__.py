"""How runs stand and what waits: for people, scripts and dashboards."""

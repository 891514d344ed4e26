"""What a run tells while it goes on: metrics, alerts, dashboards, trackers, terminal, warnings."""

"""The dashboards of contrail, as code: `python generate.py` writes them to dashboards/."""

"""What contrail's DAGs do, one module for each duty. Nothing here needs Airflow but `mail` and `incidents`."""

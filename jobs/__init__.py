"""The Spark jobs, one page each; each also runs as ``spark-submit jobs/NAME.py``. Nothing else imports pyspark."""

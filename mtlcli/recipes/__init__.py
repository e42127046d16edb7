"""Runs with published results: one file per dataset, one record per configuration."""

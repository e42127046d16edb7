"""Where labels come from: one file per dataset, named as the dataset; torch-free."""

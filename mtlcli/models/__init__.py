"""The boxes of the papers' figures; no task and no dataset is named here."""

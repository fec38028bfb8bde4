"""The package behind the notebooks: data, models, measures and methods of the modality gap."""

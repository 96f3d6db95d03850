"""Pages with plots, for whoever has figures to show."""

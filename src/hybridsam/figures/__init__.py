"""How tables of the analysis are drawn; nothing is read or computed here but by the registry. May import analysis."""

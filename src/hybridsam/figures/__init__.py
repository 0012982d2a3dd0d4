"""How tables of the analysis are drawn; nothing is read or computed here. May import analysis."""

"""Pages, captions and Table 1, from the files of an experiment. May import figures and all below."""

# The workflow lives in workflow/; this file lets `snakemake` work at the root of the repository.
include: "workflow/Snakefile"


workflow.default_target = "all"  # an include leaves the default target as it was, here: none

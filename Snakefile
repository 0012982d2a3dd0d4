# The workflow lives in workflow/; this file lets `snakemake` work at the root of the repository.
include: "workflow/Snakefile"

"""What several tests share: projects in which Snakemake runs, a SLURM cluster, a browser, the tasks made small."""

# Verification: every response runs with its own tests in bubblewrap.
# REQUIRES  results/generations/{generation}/responses/{shard}.jsonl
# MAKES     results/sandbox.json  results/generations/{generation}/verdicts/{shard}.jsonl


rule check_sandbox:
    """Try the sandbox for real; where it does not work, say why and what to do."""
    output:
        "results/sandbox.json",
    log:
        "results/logs/check_sandbox.log",
    priority: 100
    retries: 0  # the machine stays as it is
    conda:
        "../envs/core.yaml"
    # Without a version of its code: for a job that reruns, Snakemake does not look whether what reads its files has
    # changed, though ancient() input lets that stay. Every batch of programs tries the sandbox again anyway.
    shell:
        "python $SCRIPTS/check_sandbox.py --output {output:q} 2>&1 | tee {log:q}"


rule verify_responses:
    """Run each response of a shard with its own tests and give a verdict."""
    input:
        responses="results/generations/{generation}/responses/{shard}.jsonl",
        sandbox=ancient("results/sandbox.json"),
    output:
        rows="results/generations/{generation}/verdicts/{shard}.jsonl",
        stats="results/generations/{generation}/verdicts/{shard}.json",
    log:
        "results/logs/verify_responses/{generation}/{shard}.log",
    benchmark:
        "results/logs/verify_responses/{generation}/{shard}.benchmark.tsv"
    wildcard_constraints:
        shard=r"\d{5}(\.\d+)?",
    conda:
        "../envs/core.yaml"
    threads: 1
    params:
        code=code("verify_responses"),
        sandbox=SANDBOX,
        language=lambda wildcards: language_of(generation_of(wildcards)["corpus"]),
    shell:
        "python $SCRIPTS/verify_responses.py --responses {input.responses:q} --sandbox {params.sandbox:q} {params.language:q} "
        "--workers {threads} --label verdicts/{wildcards.generation}/{wildcards.shard} "
        "--output {output.rows:q} --stats {output.stats:q} 2>&1 | tee {log:q}"

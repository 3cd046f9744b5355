#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Workers of a candidate store as a Slurm array: sbatch --array=1-20 worker-array.sh STORE COMMAND…
# COMMAND has {input} and {output}, as for worker.py. Change the resources to those of one calculation.
#SBATCH --job-name=label
#SBATCH --ntasks=16
#SBATCH --cpus-per-task=1
#SBATCH --time=12:00:00
#SBATCH --open-mode=append
# The worker releases its row two minutes before the end of the job. `B` signals this script, which passes it on.
#SBATCH --signal=B:TERM@120
set -euo pipefail
store=${1:?the path of candidates.db}
shift
# The folder of worker.py: sbatch runs a copy of this script.
oracles=${OTF_ORACLES:-$SLURM_SUBMIT_DIR}
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# One worker per job. Its program starts the ranks of the calculation itself, with srun or mpiexec in COMMAND.
python3 "$oracles/worker.py" "$store" --idle 1800 --timeout 14400 --retries 1 --scratch "${TMPDIR:-/tmp}" -- "$@" &
worker=$!
trap 'kill -TERM "$worker"' TERM
code=0
wait "$worker" || code=$?
# `wait` returns early after the signal.
if kill -0 "$worker" 2>/dev/null; then code=0; wait "$worker" || code=$?; fi
exit "$code"

# Where the peers are, for the scripts here to source: sets python, model, gguf and scripts, and stops where one of those named
# is not there.
#
#     source benches/peers.sh python model gguf
peers=${FOEHN_PEERS:-$HOME/.cache/foehn-peers}
python=${PEERS_PYTHON:-$peers/venv/bin/python}
model=${PEERS_MODEL:-$peers/smollm2}
gguf=${PEERS_GGUF:-$peers/SmolLM2-135M-Instruct.Q4_1.gguf}
scripts=${PEERS_SCRIPTS:-../shared/peers}
for needed in "$@"; do
    if [ ! -e "${!needed}" ]; then
        echo "$(basename "$0" .sh): ${!needed} is not there; set PEERS_${needed^^}" >&2
        exit 1
    fi
done

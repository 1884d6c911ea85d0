#!/bin/sh
# Creates the secrets of compose.yaml with random passwords, in the folder 'secrets' beside this file. Files that exist
# are kept. No other user of this machine can enter the folder; the containers read the files with accounts of their own.
set -eu

folder=$(dirname "$0")/secrets
mkdir -p "$folder"
chmod 700 "$folder"
umask 022

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# new NAME: reads the content of a secret from standard input, unless the secret exists.
new() {
    if [ -e "$folder/$1" ]; then
        cat >/dev/null
    else
        cat >"$folder/$1"
    fi
}

random | new postgres-password
random | new grafana-password
printf 'postgresql://otc_owner:%s@database:5432/otc' "$(random)" | new database-owner-url
printf 'postgresql://otc_app:%s@database:5432/otc' "$(random)" | new database-writer-url
printf 'postgresql://otc_metrics:%s@database:5432/otc' "$(random)" | new database-reader-url

# The platform's credentials for S3, once as boto3 reads them and once as the server does.
if [ ! -e "$folder/s3-credentials" ]; then
    key=$(random)
    secret=$(random)
    new s3-credentials <<END
[default]
aws_access_key_id = $key
aws_secret_access_key = $secret
END
    cat >"$folder/s3-identities" <<END
{"identities": [{"name": "otc-assets", "credentials": [{"accessKey": "$key", "secretKey": "$secret"}],
  "actions": ["Read:otc-archive", "Write:otc-archive", "List:otc-archive", "Tagging:otc-archive"]}]}
END
fi

# Empty: no alerts by the platform, and no credentials for FINRA's API.
new alert-url </dev/null
new finra-client-id </dev/null
new finra-client-secret </dev/null

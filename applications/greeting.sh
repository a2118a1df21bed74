# Printed by each interactive shell in a service's container.
printf 'This is the device %s.\n' "${IDENTITY_NAME:-without a name: set IDENTITY_NAME}"
cat /application/*/greeting.txt

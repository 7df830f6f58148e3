"""Steps of the VM tests that are of use on the local stack as well."""

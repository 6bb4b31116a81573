# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests are made of: a private daemon, clients, images, a registry, and a count of what is left over."""

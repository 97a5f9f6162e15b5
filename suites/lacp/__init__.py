"""Link aggregation (IEEE 802.1AX): one flow rides one link, many fill all of them."""

/* SPDX-License-Identifier: Apache-2.0 */
#include "device/device.h"

#include "base/checked.h"

#include <string.h>

/*
 * One E-EDID 1.4 base block (VESA EEDID 1.4, section 3): a digital display whose preferred timing
 * is the head's mode. Drivers take sizes beyond what the block can say (4095) from the display
 * info.
 */

#define EDID_SIZE     128u
#define EDID_MAX_SIDE 4095u
#define EDID_DPI      96u

static void edid_text(uint8_t *d, uint8_t tag, const char *text)
{
	size_t n = strlen(text);

	memset(d, 0, 18);
	d[3] = tag;
	memset(d + 5, ' ', 13);
	memcpy(d + 5, text, n);
	if (n < 13)
		d[5 + n] = '\n';
}

static void edid_range_limits(uint8_t *d)
{
	memset(d, 0, 18);
	d[3] = 0xfd;
	d[5] = 50; /* Hz, vertical minimum and maximum */
	d[6] = 125;
	d[7] = 30; /* kHz, horizontal minimum and maximum */
	d[8] = 160;
	d[9] = 66; /* 10 MHz, pixel clock */
	d[10] = 1; /* range limits only */
	d[11] = '\n';
	memset(d + 12, ' ', 6);
}

/* Detailed timing with reduced blanking; the refresh rate falls where the pixel clock would not
 * fit. */
static void edid_timing(uint8_t *d, uint32_t w, uint32_t h)
{
	const uint32_t h_blank = 160, h_front = 48, h_sync = 32;
	const uint32_t v_front = 3, v_sync = 6, v_blank = MAX(h / 20, 23u);
	uint64_t clock = (uint64_t)(w + h_blank) * (h + v_blank) * 60 / 10000; /* 10 kHz */
	uint32_t mm_w = w * 254 / (EDID_DPI * 10), mm_h = h * 254 / (EDID_DPI * 10);

	clock = MIN(clock, (uint64_t)UINT16_MAX);
	d[0] = (uint8_t)clock;
	d[1] = (uint8_t)(clock >> 8);
	d[2] = (uint8_t)w;
	d[3] = (uint8_t)h_blank;
	d[4] = (uint8_t)((w >> 8) << 4 | h_blank >> 8);
	d[5] = (uint8_t)h;
	d[6] = (uint8_t)v_blank;
	d[7] = (uint8_t)((h >> 8) << 4 | v_blank >> 8);
	d[8] = (uint8_t)h_front;
	d[9] = (uint8_t)h_sync;
	d[10] = (uint8_t)((v_front & 15) << 4 | (v_sync & 15));
	d[11] = 0;
	d[12] = (uint8_t)mm_w;
	d[13] = (uint8_t)mm_h;
	d[14] = (uint8_t)((mm_w >> 8) << 4 | mm_h >> 8);
	d[15] = d[16] = 0;
	d[17] = 0x1a; /* digital separate sync, horizontal positive */
}

size_t device_edid(const struct device *dev, uint32_t head, uint8_t *buf, size_t size)
{
	static const uint8_t fixed[] = {
		0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, /* header */
		0x58, 0xf0,                                     /* "VGP" */
		0x01, 0x00, 0x01, 0x00, 0x00, 0x00,             /* product 1, serial 1 */
		0xff, 36,                                       /* model year 2026 */
		0x01, 0x04,                                     /* version 1.4 */
		0xa5,                                           /* digital, 8 bits, DisplayPort */
		0, 0, 120, 0x06, /* size in cm, gamma 2.2, sRGB with preferred timing */
		0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54, /* sRGB primaries */
		0x21, 0x08, 0x00, /* 640x480, 800x600, 1024x768 at 60 Hz */
	};
	struct display_mode mode = device_preferred_mode(dev, head);
	uint8_t block[EDID_SIZE] = {0}, sum = 0;
	uint32_t w = MIN(MAX(mode.width, 64u), EDID_MAX_SIDE);
	uint32_t h = MIN(MAX(mode.height, 64u), EDID_MAX_SIDE);

	if (head >= device_heads(dev))
		return 0;
	memcpy(block, fixed, sizeof(fixed));
	block[21] = (uint8_t)MIN(w * 254 / (EDID_DPI * 100), 255u);
	block[22] = (uint8_t)MIN(h * 254 / (EDID_DPI * 100), 255u);
	memset(block + 38, 0x01, 16); /* no standard timings */
	edid_timing(block + 54, w, h);
	edid_range_limits(block + 72);
	edid_text(block + 90, 0xfc, "vgpud");
	edid_text(block + 108, 0xff, "1");
	for (size_t i = 0; i < EDID_SIZE - 1; i++)
		sum = (uint8_t)(sum + block[i]);
	block[EDID_SIZE - 1] = (uint8_t)(0x100 - sum);
	memcpy(buf, block, MIN(size, (size_t)EDID_SIZE));
	return MIN(size, (size_t)EDID_SIZE);
}
